package receive

import (
	"io"
	"net/http"
	"time"
)

// The least pace of a body: a sender that is slower holds one of the few places for nothing.
const (
	paceBytes = 64 << 10
	paceTime  = 10 * time.Second // for each paceBytes
	bodyTime  = 2 * time.Minute  // for the whole
)

// pacedBody reads a body and moves the connection's deadline as bytes come. What cannot set deadlines is read without.
type pacedBody struct {
	r     io.Reader
	rc    *http.ResponseController
	end   time.Time // of the whole
	since int       // bytes since the deadline was moved
}

func newPacedBody(w http.ResponseWriter, r io.Reader) *pacedBody {
	p := &pacedBody{r: r, rc: http.NewResponseController(w), end: time.Now().Add(bodyTime)}
	p.extend()
	return p
}

func (p *pacedBody) extend() {
	p.since = 0
	next := time.Now().Add(paceTime)
	if next.After(p.end) {
		next = p.end
	}
	_ = p.rc.SetReadDeadline(next) // not supported: then the server's own timeout is all there is
}

func (p *pacedBody) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.since += n; p.since >= paceBytes {
		p.extend()
	}
	if err == io.EOF {
		// The server reads on to notice a client that goes; that must not end in the time of a body that has come.
		_ = p.rc.SetReadDeadline(p.end)
	}
	return n, err
}
