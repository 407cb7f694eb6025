package muster

import "time"

// Time is a moment in milliseconds since 1970 UTC; 0 is no moment. Everything Muster keeps has this
// precision, so that a value is the same before and after it was stored.
type Time int64

// At is t to the millisecond.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Time is t as the standard library has it, in UTC.
func (t Time) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Seconds is whole seconds since 1970, as devices see times.
func (t Time) Seconds() int64 { return int64(t) / 1000 }

// Add is t moved by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }

// Sub is the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Millisecond }

// IsZero reports whether t is no moment.
func (t Time) IsZero() bool { return t == 0 }
