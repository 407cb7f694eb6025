package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"muster"
)

// Dead lists the dead letters of a hook, oldest first.
func (s *Service) Dead(ctx context.Context, id string) ([]DeadLetter, error) {
	if _, err := s.hook(ctx, id); err != nil {
		return nil, err
	}
	rows, err := s.Engine.Settings(ctx, deadSetting+id+"/")
	if err != nil {
		return nil, err
	}
	all := make([]DeadLetter, 0, len(rows))
	for event, text := range rows {
		d := DeadLetter{ID: event}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			s.Log.Error("a dead letter cannot be read", "webhook", id, "event", event, "error", err)
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b DeadLetter) int { return cmp.Or(cmp.Compare(a.Failed, b.Failed), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// letters are those named, or all.
func (s *Service) letters(ctx context.Context, id, event string) ([]DeadLetter, error) {
	all, err := s.Dead(ctx, id)
	if err != nil || event == "" {
		return all, err
	}
	i := slices.IndexFunc(all, func(d DeadLetter) bool { return d.ID == event })
	if i < 0 {
		return nil, muster.Errorf(muster.NotFound, "Webhook %s has no dead letter of event %s", id, event)
	}
	return all[i : i+1], nil
}

// Retry sends one dead letter, or with an empty event all of them, oldest first until one fails: once, now. What is taken is
// no dead letter any more. refused is why the last one was not taken, empty if all were.
func (s *Service) Retry(ctx context.Context, id, event string) (delivered int, refused string, err error) {
	h, err := s.hook(ctx, id)
	if err != nil {
		return 0, "", err
	}
	letters, err := s.letters(ctx, id, event)
	if err != nil {
		return 0, "", err
	}
	for _, d := range letters {
		d.Attempts++
		if why, _ := s.attempt(ctx, &h, &item{id: d.ID, topic: d.Topic, payload: d.Event, attempts: d.Attempts}); why != "" {
			d.Reason, d.Failed = why, s.Engine.Now()
			return delivered, why, s.keepDead(ctx, id, d)
		}
		s.counters.delivered.Add(1)
		if err := s.dropDead(ctx, id, d.ID); err != nil {
			return delivered, "", err
		}
		delivered++
	}
	return delivered, "", nil
}

// Drop forgets one dead letter, or with an empty event all of them.
func (s *Service) Drop(ctx context.Context, id, event string) (dropped int, err error) {
	letters, err := s.letters(ctx, id, event)
	if err != nil {
		return 0, err
	}
	for _, d := range letters {
		if err := s.dropDead(ctx, id, d.ID); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

func (s *Service) keepDead(ctx context.Context, id string, d DeadLetter) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return s.Engine.SetSetting(ctx, deadSetting+id+"/"+d.ID, string(b))
}

func (s *Service) dropDead(ctx context.Context, id, event string) error {
	if err := s.Engine.SetSetting(ctx, deadSetting+id+"/"+event, ""); err != nil {
		return err
	}
	s.mu.Lock()
	r := s.running[id]
	s.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		r.dead = max(0, r.dead-1)
		r.mu.Unlock()
		select {
		case r.room <- struct{}{}:
		default:
		}
	}
	return nil
}
