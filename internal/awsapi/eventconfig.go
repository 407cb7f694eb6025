package awsapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync/atomic"

	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
)

// eventTypes are the keys of the event configurations. All are off until somebody turns them on; the
// last three are kept and have no events here.
var eventTypes = []string{iot.EventTypeThing, iot.EventTypeThingGroup, iot.EventTypeThingType, iot.EventTypeThingGroupMembership,
	iot.EventTypeThingGroupHierarchy, iot.EventTypeThingTypeAssociation, iot.EventTypeJob, iot.EventTypeJobExecution,
	iot.EventTypePolicy, iot.EventTypeCertificate, iot.EventTypeCaCertificate}

// eventsSetting is where the store keeps which events are on.
const eventsSetting = "events/configuration"

// An eventConfig is what the setting holds, as JSON.
type eventConfig struct {
	Enabled  []string
	Created  muster.Time
	Modified muster.Time
}

func parseEventConfig(text string) (c eventConfig, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &c)
	}
	return c, err
}

// eventSwitches remember which events are on, so that the facts of a rollout of a million need not ask.
// They are read again once in a while, for another node may have changed them.
type eventSwitches struct {
	on atomic.Pointer[map[string]bool]
}

func (s *eventSwitches) set(c eventConfig) {
	on := map[string]bool{}
	for _, t := range c.Enabled {
		on[t] = true
	}
	s.on.Store(&on)
}

// enabled says which events are on.
func (s *eventSwitches) enabled() map[string]bool {
	if on := s.on.Load(); on != nil {
		return *on
	}
	return nil
}

// loadEvents brings the switches up to date with the store.
func (a *API) loadEvents(ctx context.Context) error {
	text, err := a.engine.Setting(ctx, eventsSetting)
	if err != nil {
		return err
	}
	config, err := parseEventConfig(text)
	if err != nil {
		return err
	}
	a.events.set(config)
	return nil
}

// describeEvents is DescribeEventConfigurations: every type, on or off.
func (c *call) describeEvents(*iot.DescribeEventConfigurationsInput) (wire.Output, error) {
	text, err := c.engine.Setting(c.ctx, eventsSetting)
	if err != nil {
		return nil, err
	}
	config, err := parseEventConfig(text)
	if err != nil {
		return nil, err
	}
	out := &iot.DescribeEventConfigurationsOutput{EventConfigurations: map[string]iot.Configuration{},
		CreationDate: moment(config.Created), LastModifiedDate: moment(config.Modified)}
	for _, t := range eventTypes {
		out.EventConfigurations[t] = iot.Configuration{Enabled: wire.Ptr(slices.Contains(config.Enabled, t))}
	}
	return out, nil
}

// updateEvents is UpdateEventConfigurations: types that are not named stay as they are.
func (c *call) updateEvents(in *iot.UpdateEventConfigurationsInput) (wire.Output, error) {
	var config eventConfig
	err := c.engine.ChangeSetting(c.ctx, eventsSetting, func(value string, now muster.Time) (text string, err error) {
		if config, err = parseEventConfig(value); err != nil {
			return "", err
		}
		on := map[string]bool{}
		for _, t := range config.Enabled {
			on[t] = true
		}
		for t, wanted := range in.EventConfigurations {
			if on[t] = is(wanted.Enabled); !on[t] {
				delete(on, t)
			}
		}
		config.Enabled, config.Modified = slices.Sorted(maps.Keys(on)), now
		if config.Created == 0 {
			config.Created = now
		}
		b, err := json.Marshal(config)
		return string(b), err
	})
	if err != nil {
		return nil, err
	}
	c.events.set(config)
	return &iot.UpdateEventConfigurationsOutput{}, nil
}
