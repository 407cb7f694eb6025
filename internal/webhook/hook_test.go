package webhook

import (
	"testing"
	"time"
)

// What receivers compute: printf %s '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
func TestSign(t *testing.T) {
	const want = "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
	if got := Sign("0123456789abcdef", time.Unix(1700000000, 999), []byte(`{"a":1}`)); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestPause(t *testing.T) {
	var sum time.Duration
	for attempt := 1; attempt < DefaultAttempts; attempt++ {
		p := pause(attempt)
		if p > longestPause || p < time.Second {
			t.Errorf("attempt %d: %v", attempt, p)
		}
		sum += p
	}
	if sum < 25*time.Minute || sum > 45*time.Minute {
		t.Errorf("%d attempts take %v, not about half an hour", DefaultAttempts, sum)
	}
	if p := pause(1000); p != longestPause {
		t.Error(p)
	}
}
