package agent

// Type is a kind of profile.
type Type string

// The kinds of profile that the agent takes.
const (
	CPU       Type = "cpu"
	Heap      Type = "heap"
	Goroutine Type = "goroutine"
	Mutex     Type = "mutex"
	Block     Type = "block"
)
