package sdk_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"muster/test/process"
)

// A cli is the real AWS CLI against one server. Versions 1 and 2 both have to work; some sign the control plane
// as `execute-api`, so the calls whose paths both planes share are asked through both.
type cli struct {
	path, url string
	env       []string
}

func newCLI(t *testing.T, url string, k key) cli {
	t.Helper()
	return cli{path: need(t, "aws"), url: url, env: clientEnv(t, k)}
}

func (c cli) try(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), c.path, append(args, "--endpoint-url", c.url, "--output", "json")...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// run makes a call that has to succeed.
func (c cli) run(t *testing.T, args ...string) tree {
	t.Helper()
	out, errs, err := c.try(t, args...)
	if err != nil {
		t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	var answer tree
	if strings.TrimSpace(out) != "" {
		if err := json.Unmarshal([]byte(out), &answer.value); err != nil {
			t.Fatalf("aws %s: %v in %s", strings.Join(args, " "), err, out)
		}
	}
	return answer
}

// refuse makes a call that has to fail with the named exception, and returns what it said.
func (c cli) refuse(t *testing.T, exception string, args ...string) string {
	t.Helper()
	out, errs, err := c.try(t, args...)
	if err == nil {
		t.Fatalf("aws %s: want %s, got %s", strings.Join(args, " "), exception, out)
	}
	if !strings.Contains(errs, "("+exception+")") {
		t.Fatalf("aws %s: want %s, got %s", strings.Join(args, " "), exception, errs)
	}
	return errs
}

// A tree is any JSON, looked into by a path of names joined by dots.
type tree struct{ value any }

func (j tree) at(path string) any {
	v := j.value
	for name := range strings.SplitSeq(path, ".") {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (j tree) text(path string) string { s, _ := j.at(path).(string); return s }

// number is 0 if nothing is there.
func (j tree) number(path string) int { n, _ := j.at(path).(float64); return int(n) }

// each collects a member of every element of a list.
func (j tree) each(list, member string) []string {
	var all []string
	elements, _ := j.at(list).([]any)
	for _, e := range elements {
		all = append(all, tree{e}.text(member))
	}
	return all
}

func TestCLI(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	url := process.Start(t)
	for name, journey := range map[string]func(*testing.T, cli){
		"work a queue":                  cliQueue,
		"continuous job":                cliContinuous,
		"paging over a thousand things": cliPaging,
		"templates":                     cliTemplates,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			journey(t, newCLI(t, url, admin))
		})
	}
}

// TestCLIKeys: signatures of this CLI, whatever service name it signs, are understood on both planes.
func TestCLIKeys(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	url := process.Start(t, signed(t)...)
	aws := newCLI(t, url, admin)
	thing := "keys:a"
	aws.run(t, "iot", "create-thing", "--thing-name", thing)
	if list := aws.run(t, "iot", "list-job-executions-for-thing", "--thing-name", thing); list.at("executionSummaries") == nil {
		t.Errorf("control plane: got %v", list.value)
	}
	if list := aws.run(t, "iot-jobs-data", "get-pending-job-executions", "--thing-name", thing); list.at("queuedJobs") == nil {
		t.Errorf("data plane: got %v", list.value)
	}
	newCLI(t, url, stranger).refuse(t, "UnrecognizedClientException", "iot", "create-thing", "--thing-name", thing)
	newCLI(t, url, device).refuse(t, "AccessDeniedException", "iot", "create-thing", "--thing-name", thing)
}

func cliQueue(t *testing.T, aws cli) {
	thing, job := "cli:queue_a", "cli-queue"
	device := func(operation string, args ...string) tree {
		t.Helper()
		return aws.run(t, append([]string{"iot-jobs-data", operation, "--thing-name", thing}, args...)...)
	}
	aws.run(t, "iot", "create-thing-type", "--thing-type-name", "cli-lamp")
	arn := aws.run(t, "iot", "create-thing", "--thing-name", thing, "--thing-type-name", "cli-lamp",
		"--attribute-payload", `{"attributes":{"site":"north"}}`).text("thingArn")
	told := aws.run(t, "iot", "describe-thing", "--thing-name", thing)
	same(t, "attribute", told.text("attributes.site"), "north")
	same(t, "version", told.number("version"), 1)
	if names := aws.run(t, "iot", "list-things", "--thing-type-name", "cli-lamp").each("things", "thingName"); !slices.Contains(names, thing) {
		t.Errorf("%s is not among %v", thing, names)
	}

	created := aws.run(t, "iot", "create-job", "--job-id", job, "--targets", arn, "--document", document, "--tags", "Key=team,Value=lamps")
	same(t, "job arn", created.text("jobArn"), "arn:aws:iot:us-east-1:123456789012:job/"+job)
	process.Eventually(t, "queued", func() bool {
		return slices.Contains(device("get-pending-job-executions").each("queuedJobs", "jobId"), job)
	})
	e := device("start-next-pending-job-execution", "--status-details", "step=download")
	same(t, "document", e.text("execution.jobDocument"), document)
	same(t, "version when started", e.number("execution.versionNumber"), 2)
	e = device("update-job-execution", "--job-id", job, "--status", "IN_PROGRESS", "--expected-version", "2",
		"--status-details", "step=install,percent=50", "--include-job-execution-state")
	same(t, "version after a report", e.number("executionState.versionNumber"), 3)

	// One path, two planes: each gets its own form.
	same(t, "control plane", aws.run(t, "iot", "describe-job-execution", "--thing-name", thing, "--job-id", job).text("execution.statusDetails.detailsMap.percent"), "50")
	same(t, "data plane", device("describe-job-execution", "--job-id", "$next").text("execution.statusDetails.percent"), "50")

	// The CLI shows bodies only when asked to debug.
	said := aws.refuse(t, "InvalidStateTransitionException", "iot-jobs-data", "update-job-execution", "--thing-name", thing, "--job-id", job,
		"--status", "SUCCEEDED", "--expected-version", "7", "--debug")
	if !strings.Contains(said, `"executionState"`) || !strings.Contains(said, `"VersionMismatch"`) {
		t.Errorf("a version mismatch does not tell the state: %s", said)
	}
	device("update-job-execution", "--job-id", job, "--status", "SUCCEEDED")
	aws.refuse(t, "TerminalStateException", "iot-jobs-data", "describe-job-execution", "--thing-name", thing, "--job-id", job)
	process.Eventually(t, "completed", func() bool {
		told = aws.run(t, "iot", "describe-job", "--job-id", job)
		return told.text("job.status") == "COMPLETED"
	})
	same(t, "succeeded", told.number("job.jobProcessDetails.numberOfSucceededThings"), 1)
	rows := aws.run(t, "iot", "list-job-executions-for-thing", "--thing-name", thing)
	same(t, "history", strings.Join(rows.each("executionSummaries", "jobExecutionSummary.status"), " "), "SUCCEEDED")
	rows = aws.run(t, "iot", "list-job-executions-for-job", "--job-id", job)
	same(t, "rows", strings.Join(rows.each("executionSummaries", "thingArn"), " "), arn)
}

// cliPaging lets the CLI gather pages by itself, of every size, and go on by hand where it stopped.
func cliPaging(t *testing.T, aws cli) {
	const count = 1000
	want := make([]string, count)
	lines := []string{`{"thingGroup":{"thingGroupName":"cli-fleet"}}`}
	for i := range count {
		want[i] = fmt.Sprintf("cli-paging-%04d", i)
		lines = append(lines, `{"thing":{"thingName":"`+want[i]+`","attributes":{"fleet":"cli"},"thingGroupNames":["cli-fleet"]}}`)
	}
	r, err := http.Post(aws.url+"/_muster/import", "application/jsonl", strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	same(t, "import", r.StatusCode, http.StatusOK)

	names := func(args ...string) []string {
		t.Helper()
		return aws.run(t, append([]string{"iot", "list-things", "--attribute-name", "fleet", "--attribute-value", "cli"}, args...)...).each("things", "thingName")
	}
	for _, size := range []string{"250", "97"} {
		if got := names("--page-size", size); !slices.Equal(got, want) {
			t.Errorf("pages of %s: %d things", size, len(got))
		}
	}
	page := aws.run(t, "iot", "list-things", "--attribute-name", "fleet", "--attribute-value", "cli", "--max-items", "600")
	rest := names("--starting-token", page.text("NextToken"))
	if got := append(page.each("things", "thingName"), rest...); !slices.Equal(got, want) {
		t.Errorf("in two parts: %d things", len(got))
	}
	members, _ := aws.run(t, "iot", "list-things-in-thing-group", "--thing-group-name", "cli-fleet").at("things").([]any)
	same(t, "members", len(members), count)
	aws.refuse(t, "InvalidRequestException", "iot", "list-things", "--no-paginate", "--next-token", "nonsense")
}

func cliContinuous(t *testing.T, aws cli) {
	thing, late, group, job := "cli-cont-a", "cli-cont-late", "cli-cont-group", "cli-cont"
	for _, name := range []string{thing, late} {
		aws.run(t, "iot", "create-thing", "--thing-name", name)
	}
	arn := aws.run(t, "iot", "create-thing-group", "--thing-group-name", group).text("thingGroupArn")
	aws.run(t, "iot", "add-thing-to-thing-group", "--thing-name", thing, "--thing-group-name", group)
	aws.run(t, "iot", "create-job", "--job-id", job, "--targets", arn, "--document", document, "--target-selection", "CONTINUOUS")
	status := func(thing, want string) {
		t.Helper()
		process.Eventually(t, thing+" "+want, func() bool {
			rows := aws.run(t, "iot", "list-job-executions-for-thing", "--thing-name", thing)
			return slices.Contains(rows.each("executionSummaries", "jobExecutionSummary.status"), want)
		})
	}
	aws.run(t, "iot", "add-thing-to-thing-group", "--thing-name", late, "--thing-group-name", group)
	status(late, "QUEUED")
	aws.run(t, "iot", "remove-thing-from-thing-group", "--thing-name", late, "--thing-group-name", group)
	status(late, "REMOVED")

	status(thing, "QUEUED")
	aws.refuse(t, "VersionConflictException", "iot", "cancel-job-execution", "--thing-name", thing, "--job-id", job, "--expected-version", "5")
	aws.run(t, "iot", "cancel-job-execution", "--thing-name", thing, "--job-id", job, "--expected-version", "1")
	status(thing, "CANCELED")

	aws.refuse(t, "InvalidStateTransitionException", "iot", "delete-job", "--job-id", job)
	aws.run(t, "iot", "cancel-job", "--job-id", job, "--force", "--reason-code", "ENOUGH")
	told := aws.run(t, "iot", "describe-job", "--job-id", job)
	same(t, "status", told.text("job.status"), "CANCELED")
	same(t, "reason", told.text("job.reasonCode"), "ENOUGH")
	aws.run(t, "iot", "delete-job", "--job-id", job, "--force")
	process.Eventually(t, "gone", func() bool {
		_, said, err := aws.try(t, "iot", "describe-job", "--job-id", job)
		return err != nil && strings.Contains(said, "(ResourceNotFoundException)")
	})
}

func cliTemplates(t *testing.T, aws cli) {
	if at := aws.run(t, "iot", "describe-endpoint", "--endpoint-type", "iot:Jobs").text("endpointAddress"); at == "" || strings.Contains(at, "/") {
		t.Errorf("want a bare host, got %q", at)
	}
	thing := aws.run(t, "iot", "create-thing", "--thing-name", "cli-template-a").text("thingArn")

	arn := aws.run(t, "iot", "create-job-template", "--job-template-id", "cli-template", "--description", "ours", "--document", document).text("jobTemplateArn")
	same(t, "document", aws.run(t, "iot", "describe-job-template", "--job-template-id", "cli-template").text("document"), document)
	aws.run(t, "iot", "tag-resource", "--resource-arn", arn, "--tags", "Key=site,Value=north", "Key=team,Value=lamps")
	aws.run(t, "iot", "untag-resource", "--resource-arn", arn, "--tag-keys", "site")
	same(t, "tags", strings.Join(aws.run(t, "iot", "list-tags-for-resource", "--resource-arn", arn).each("tags", "Key"), " "), "team")

	if names := aws.run(t, "iot", "list-managed-job-templates").each("managedJobTemplates", "templateName"); !slices.Contains(names, "AWS-Run-Command") {
		t.Errorf("AWS-Run-Command is not among %v", names)
	}
	managed := aws.run(t, "iot", "describe-managed-job-template", "--template-name", "AWS-Run-Command").text("templateArn")
	aws.run(t, "iot", "create-job", "--job-id", "cli-managed", "--targets", thing, "--job-template-arn", managed,
		"--document-parameters", `{"command":"echo,hello"}`)
	if text := aws.run(t, "iot", "get-job-document", "--job-id", "cli-managed").text("document"); !strings.Contains(text, "echo,hello") {
		t.Errorf("document: got %s", text)
	}
}
