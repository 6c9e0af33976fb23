//go:build race

package agent

// raceEnabled says that the race detector is in the test.
const raceEnabled = true
