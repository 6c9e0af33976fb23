//go:build !race

package agent

// raceEnabled says that the race detector is in the test, which allocates on its own account.
const raceEnabled = false
