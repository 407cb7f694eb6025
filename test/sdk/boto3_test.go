package sdk_test

import "testing"

// TestBoto3 runs the journeys in boto3/, written as a Python user would write them.
func TestBoto3(t *testing.T) {
	t.Parallel()
	python := need(t, "python")
	inBothModes(t, func(t *testing.T, url string) {
		runScripts(t, python, "boto3/journey_*.py", url)
	})
}
