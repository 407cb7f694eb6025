package operate

import (
	"fmt"
	"strconv"
	"strings"
)

// A Tolerance is how many failed things are too many: a number, or a share in percent. More than that fails.
type Tolerance struct {
	Count   int64
	Percent float64
	Share   bool
}

// ParseTolerance reads 5, or 2%.
func ParseTolerance(text string) (t Tolerance, err error) {
	number, share := strings.CutSuffix(text, "%")
	if t.Share = share; share {
		t.Percent, err = strconv.ParseFloat(number, 64)
	} else {
		t.Count, err = strconv.ParseInt(number, 10, 64)
	}
	if err != nil || t.Count < 0 || !(t.Percent >= 0 && t.Percent <= 100) {
		return t, fmt.Errorf("%q is neither a number of things nor a share of them; write 5, or 2%%", text)
	}
	return t, nil
}

// Exceeded says whether more things failed than are tolerated.
func (t Tolerance) Exceeded(f Failures) bool {
	if t.Share {
		return f.Percent() > t.Percent
	}
	return f.Failed > t.Count
}

func (t Tolerance) String() string {
	if t.Share {
		return strconv.FormatFloat(t.Percent, 'f', -1, 64) + " %"
	}
	return strconv.FormatInt(t.Count, 10)
}
