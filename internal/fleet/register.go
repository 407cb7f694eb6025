package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Names are n names of things: the prefix and a number, the same for a fleet of any size.
func Names(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%06d", prefix, i+1)
	}
	return names
}

// Lines writes things, and the group they are all in if it is not empty, as lines of muster import.
func Lines(w io.Writer, names []string, group string) error {
	b := bufio.NewWriter(w)
	groups := ""
	if group != "" {
		fmt.Fprintf(b, "{\"thingGroup\":{\"thingGroupName\":%q}}\n", group)
		groups = fmt.Sprintf(",\"thingGroupNames\":[%q]", group)
	}
	for _, n := range names {
		fmt.Fprintf(b, "{\"thing\":{\"thingName\":%q%s}}\n", n, groups)
	}
	return b.Flush()
}

// registrars is how many things are registered at once by calls.
const registrars = 8

// Register makes things, and puts them into a group that it makes too, by AWS's calls. What is there already stays.
func Register(ctx context.Context, control *iot.Client, names []string, group string) error {
	if group != "" {
		_, err := control.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: &group})
		if _, there := errors.AsType[*types.ResourceAlreadyExistsException](err); err != nil && !there {
			return fmt.Errorf("the group %s cannot be made: %w", group, err)
		}
	}
	return each(ctx, names, func(ctx context.Context, name string) error {
		_, err := control.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name})
		if _, there := errors.AsType[*types.ResourceAlreadyExistsException](err); err != nil && !there {
			return fmt.Errorf("the thing %s cannot be made: %w", name, err)
		}
		if group == "" {
			return nil
		}
		_, err = control.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: &name, ThingGroupName: &group})
		if err != nil {
			return fmt.Errorf("the thing %s cannot be put into %s: %w", name, group, err)
		}
		return nil
	})
}

// Unregister deletes things, and their group if one is named.
func Unregister(ctx context.Context, control *iot.Client, names []string, group string) error {
	err := each(ctx, names, func(ctx context.Context, name string) error {
		_, err := control.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String(name)})
		if err != nil {
			return fmt.Errorf("the thing %s cannot be deleted: %w", name, err)
		}
		return nil
	})
	if err != nil || group == "" {
		return err
	}
	if _, err = control.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: &group}); err != nil {
		return fmt.Errorf("the group %s cannot be deleted: %w", group, err)
	}
	return nil
}

// each does something for each name, some at once, until one fails.
func each(ctx context.Context, names []string, do func(context.Context, string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan string)
	var all sync.WaitGroup
	for range min(registrars, len(names)) {
		all.Go(func() {
			for name := range work {
				if err := do(ctx, name); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, name := range names {
		select {
		case work <- name:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	all.Wait()
	return context.Cause(ctx)
}
