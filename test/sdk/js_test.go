package sdk_test

import "testing"

// TestJavaScript runs the journeys in js/ with the AWS SDK for JavaScript v3.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	node := need(t, "node")
	inBothModes(t, func(t *testing.T, url string) {
		runScripts(t, node, "js/journey_*.mjs", url)
	})
}
