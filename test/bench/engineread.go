package main

import (
	"context"
	"fmt"
	"time"

	"muster"
	"muster/internal/engine"
)

// P11: what operators ask about a job of all things, compared with the same
// question about a job of 100.

const (
	describeUS = "describe_us"
	pageUS     = "page_us" // the worst of the places
)

// spreadJob reached all things and is in its middle: of eight things one is in
// progress, one has succeeded, and six are queued.
const spreadJob = naiveJob

// smallJob is the job of 100 things that all have a status.
func smallJob(status string) string { return "small-" + status }

// spread brings the jobs that are asked about to where they are to be.
func (e *engineService) spread(ctx context.Context) error {
	steps := [8]muster.Status{3: muster.InProgress, 5: muster.Succeeded}
	err := e.reportAll(ctx, spreadJob, 0, e.settings.Things, func(i int) muster.Report {
		details := noisyDetails(i)
		return muster.Report{Status: steps[i%len(steps)], Details: &details}
	})
	if err != nil {
		return err
	}
	for _, status := range []muster.Status{muster.Queued, muster.InProgress, muster.Succeeded} {
		id := muster.JobID(smallJob(status.String()))
		if err := e.begin(ctx, id, pageGroup); err != nil {
			return err
		}
		if status == muster.Queued {
			continue
		}
		err := e.reportAll(ctx, id, 0, pageSize, func(i int) muster.Report {
			details := noisyDetails(i)
			return muster.Report{Status: status, Details: &details}
		})
		if err != nil {
			return err
		}
	}
	return e.settle()
}

func (e *engineService) measureDescribe(ctx context.Context, req Request) (Sample, error) {
	const times = 5000
	var h histogram
	var sum int64
	for range times {
		start := time.Now()
		v, err := e.DescribeJob(ctx, muster.JobID(req.Job))
		h.add(time.Since(start))
		if err != nil {
			return nil, err
		}
		sum = total(v.Counts)
	}
	return Sample{describeUS: micros(h.quantile(0.5)), Operations: times, "executions": float64(sum)}, nil
}

func total(c muster.Counts) (sum int64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// measurePages lists pages of a status at the start, anywhere in between, and
// at the end.
func (e *engineService) measurePages(ctx context.Context, req Request) (Sample, error) {
	const times = 300
	id := muster.JobID(req.Job)
	status, _ := muster.ParseStatus(req.Status)
	tokens, err := e.pageTokens(ctx, id, status)
	if err != nil {
		return nil, err
	}
	last := len(tokens) - 1
	places := map[string]func(i int) string{
		"start_us":  func(int) string { return tokens[0] },
		"middle_us": func(i int) string { return tokens[i%(last+1)] },
		"end_us":    func(int) string { return tokens[last] },
	}
	s := Sample{Operations: times}
	for name, place := range places {
		var h histogram
		for i := range times {
			page := engine.Page{After: place(i), Limit: pageSize}
			start := time.Now()
			rows, _, err := e.ExecutionsOfJob(ctx, id, status, page)
			h.add(time.Since(start))
			if err == nil && len(rows) != pageSize {
				err = fmt.Errorf("a page has %d executions, not %d", len(rows), pageSize)
			}
			if err != nil {
				return nil, err
			}
		}
		s[name] = micros(h.quantile(0.5))
		s[pageUS] = max(s[pageUS], s[name])
	}
	return s, nil
}

// pageTokens walks through a whole list and returns what leads to its first
// page, to pages all along it, and to its last full page. What it finds on the
// way is compared with the job's counters.
func (e *engineService) pageTokens(ctx context.Context, id muster.JobID, status muster.Status) ([]string, error) {
	key := fmt.Sprint(id, status)
	if got := e.tokens[key]; got != nil {
		return got, nil
	}
	v, err := e.DescribeJob(ctx, id)
	if err != nil {
		return nil, err
	}
	all := int(v.Counts[status])
	if status == muster.NoStatus {
		all = int(total(v.Counts))
	}
	if all < pageSize {
		return nil, fmt.Errorf("job %s has %d executions with status %q: less than a page", id, all, status)
	}
	tokens := []string{""}
	stride := max(pageSize, all/100)
	for seen, after := 0, ""; ; {
		limit := stride
		if left := all - pageSize - seen; left > 0 {
			limit = min(stride, left)
		}
		rows, next, err := e.ExecutionsOfJob(ctx, id, status, engine.Page{After: after, Limit: limit})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if status != muster.NoStatus && r.Status != status {
				return nil, fmt.Errorf("the list of %s has an execution that is %s", status, r.Status)
			}
		}
		seen += len(rows)
		if next == "" {
			if seen != all {
				return nil, fmt.Errorf("the list of job %s, status %q, has %d executions; the counters say %d", id, status, seen, all)
			}
			break
		}
		if after = next; all-seen >= pageSize {
			tokens = append(tokens, after)
		}
	}
	e.tokens[key] = tokens
	return tokens, nil
}

// reader returns the child that answers questions.
func (b *Bench) reader(ctx context.Context) (*Child, error) {
	fresh := b.children["reads"] == nil
	c, err := b.engine(ctx, "reads", liveSeed)
	if err == nil && fresh {
		_, err = c.Call(Request{Op: "spread"})
	}
	return c, err
}

// engineDescribe measures DescribeJob.
func (b *Bench) engineDescribe(job string) *Meter {
	return b.reads("engine, DescribeJob "+job, Request{Op: "describe", Job: job})
}

// enginePages measures pages of 100 of a job's executions with a status; "" is
// all of them.
func (b *Bench) enginePages(job, status string) *Meter {
	return b.reads("engine, pages "+status+" of "+job, Request{Op: "pages", Job: job, Status: status})
}

func (b *Bench) reads(name string, req Request) *Meter {
	return &Meter{
		Name: name,
		Prepare: func(ctx context.Context) error {
			c, err := b.reader(ctx)
			if err == nil {
				_, err = c.Call(req)
			}
			return err
		},
		Run: func(ctx context.Context) (Sample, error) {
			c, err := b.reader(ctx)
			if err != nil {
				return nil, err
			}
			return c.Call(req)
		},
	}
}
