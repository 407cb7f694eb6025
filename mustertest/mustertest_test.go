package mustertest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"muster/mustertest"
)

// A device starts a job that has a 30-minute timeout, and is never heard of again.
func TestTimeoutOfAQuietDevice(t *testing.T) {
	srv := mustertest.New(t)
	control := iot.NewFromConfig(srv.AWSConfig())
	ctx := t.Context()

	thing, err := control.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("lamp")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = control.CreateJob(ctx, &iot.CreateJobInput{
		JobId:         aws.String("firmware"),
		Targets:       []string{*thing.ThingArn},
		Document:      aws.String(`{"operation":"update"}`),
		TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(30)},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Advance(0) // the rollout
	startNext(t, srv, "lamp")

	srv.Advance(29 * time.Minute)
	if e := describe(t, control); e.Status != types.JobExecutionStatusInProgress {
		t.Errorf("after 29 minutes: %s", e.Status)
	}
	if due := srv.NextDue(); !due.Equal(mustertest.Start.Add(30 * time.Minute)) {
		t.Errorf("due at %s", due)
	}
	srv.Advance(2 * time.Minute)
	e := describe(t, control)
	if e.Status != types.JobExecutionStatusTimedOut {
		t.Errorf("after 31 minutes: %s", e.Status)
	}
	if at := aws.ToTime(e.LastUpdatedAt); !at.Equal(mustertest.Start.Add(30 * time.Minute)) {
		t.Errorf("it timed out at %s, not when it was due", at)
	}
}

func describe(t *testing.T, control *iot.Client) *types.JobExecution {
	t.Helper()
	out, err := control.DescribeJobExecution(t.Context(), &iot.DescribeJobExecutionInput{JobId: aws.String("firmware"), ThingName: aws.String("lamp")})
	if err != nil {
		t.Fatal(err)
	}
	return out.Execution
}

// startNext is what a device does, in plain HTTP.
func startNext(t *testing.T, srv *mustertest.Server, thing string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL+"/things/"+thing+"/jobs/$next", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(text), `"IN_PROGRESS"`) {
		t.Fatalf("%s %s %v", resp.Status, text, err)
	}
}

// A device over MQTT hears of what the clock brings.
func TestDeviceIsTold(t *testing.T) {
	srv := mustertest.New(t)
	control := iot.NewFromConfig(srv.AWSConfig())
	ctx := t.Context()
	thing, err := control.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("lamp")})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 10)
	device := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(srv.MQTT).SetClientID("lamp").SetAutoReconnect(false))
	done := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	done(device.Connect())
	defer device.Disconnect(0)
	done(device.Subscribe("$aws/things/lamp/jobs/notify-next", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- string(m.Payload()) }))

	// It starts in an hour.
	_, err = control.CreateJob(ctx, &iot.CreateJobInput{JobId: aws.String("later"), Targets: []string{*thing.ThingArn}, Document: aws.String(`{}`),
		SchedulingConfig: &types.SchedulingConfig{StartTime: aws.String(srv.Now().Add(time.Hour).Format("2006-01-02 15:04"))}})
	if err != nil {
		t.Fatal(err)
	}
	srv.Advance(59 * time.Minute)
	select {
	case told := <-heard:
		t.Errorf("an hour too early: %s", told)
	default:
	}
	srv.Advance(time.Minute)
	select {
	case told := <-heard:
		if !strings.Contains(told, `"jobId":"later"`) {
			t.Errorf("it was told %s", told)
		}
	case <-time.After(10 * time.Second):
		t.Error("it was not told")
	}
}

func TestOptions(t *testing.T) {
	noon := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	srv := mustertest.New(t, mustertest.At(noon), mustertest.Region("eu-west-1"), mustertest.Account("210987654321"))
	if now := srv.Now(); !now.Equal(noon) {
		t.Errorf("now is %s", now)
	}
	if next := srv.NextDue(); !next.IsZero() {
		t.Errorf("something is due at %s on an empty server", next)
	}
	if now := srv.AdvanceToNext(); !now.Equal(noon) {
		t.Errorf("nothing is due, and now it is %s", now)
	}
	if now := srv.Advance(90 * time.Minute); !now.Equal(noon.Add(90*time.Minute)) || !srv.Now().Equal(now) {
		t.Errorf("after 90 minutes it is %s", now)
	}
	thing, err := iot.NewFromConfig(srv.AWSConfig()).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("lamp")})
	if err != nil {
		t.Fatal(err)
	}
	if arn := "arn:aws:iot:eu-west-1:210987654321:thing/lamp"; *thing.ThingArn != arn {
		t.Errorf("the thing is %s, want %s", *thing.ThingArn, arn)
	}
}

// Two servers of one test know nothing of each other.
func TestServersAreApart(t *testing.T) {
	a, b := mustertest.New(t), mustertest.New(t)
	a.Advance(time.Hour)
	if now := b.Now(); !now.Equal(mustertest.Start) {
		t.Errorf("the other clock moved to %s", now)
	}
	if _, err := iot.NewFromConfig(a.AWSConfig()).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("lamp")}); err != nil {
		t.Fatal(err)
	}
	if things, err := iot.NewFromConfig(b.AWSConfig()).ListThings(context.WithoutCancel(t.Context()), &iot.ListThingsInput{}); err != nil || len(things.Things) != 0 {
		t.Errorf("%v %v", things, err)
	}
}
