package inspect

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sonde-io/sonde/symbols/pclntab"
)

// maxText bounds the text of all goroutines, bytes, as net/http/pprof bounds its own.
const maxText = 64 << 20

// text writes all goroutines as the runtime does for debug=2, but for the arguments of functions, which are not known. now is the monotonic clock, ns. What is beyond
// maxText bytes is left out, and the last line says so.
func (v *view) text(now int64) ([]byte, error) {
	var out bytes.Buffer
	left := 0
	st, err := v.goroutines(func(g *goroutine) {
		if v.system(g) {
			return
		}
		if out.Len() > maxText {
			left++
			return
		}
		v.writeGoroutine(&out, g, now)
	})
	if err != nil {
		return nil, err
	}
	if left > 0 {
		fmt.Fprintf(&out, "... %d more goroutines left out: the text is longer than %d MiB\n", left, maxText>>20)
	}
	if st.stride > 1 {
		fmt.Fprintf(&out, "... one of %d goroutines was read\n", st.stride)
	}
	return out.Bytes(), nil
}

func (v *view) writeGoroutine(out *bytes.Buffer, g *goroutine, now int64) {
	state := statusNames[g.status]
	if g.reason != "" {
		state = g.reason
	}
	if g.status == statusLeaked {
		state += " (leaked)"
	}
	fmt.Fprintf(out, "goroutine %d [%s", g.id, state)
	if minutes := (now - g.waitSince) / 60e9; g.waitSince != 0 && minutes >= 1 {
		fmt.Fprintf(out, ", %d minutes", minutes)
	}
	if g.locked {
		out.WriteString(", locked to thread")
	}
	out.WriteString("]:\n")
	if !g.known {
		out.WriteString("\tgoroutine running on other thread; stack unavailable\n")
	}
	shown := 0
	for i, f := range g.frames {
		s := v.im.siteAt(f.pc-v.bias, f.ret)
		if s == nil {
			fmt.Fprintf(out, "%#x(...)\n\t?:0\n", f.pc)
			continue
		}
		for j := range s.frames {
			fr := &s.frames[j]
			if hidden(fr.Func) && (shown > 0 || i+1 < len(g.frames) || j+1 < len(s.frames)) {
				continue
			}
			writeFrame(out, fr, f.pc-v.bias-s.entry, "", "(...)")
			shown++
		}
	}
	if !g.whole && g.known {
		out.WriteString("...additional frames elided...\n")
	}
	if s := v.im.siteAt(g.goPC-v.bias, true); g.goPC != 0 && s != nil && len(s.frames) > 0 && g.id != 1 {
		in := ""
		if g.parent != 0 {
			in = fmt.Sprintf(" in goroutine %d", g.parent)
		}
		creator := &s.frames[len(s.frames)-1] // the runtime does not expand it
		writeFrame(out, creator, g.goPC-v.bias-s.entry, "created by ", in)
	}
	out.WriteByte('\n')
}

// writeFrame writes a function, with before and after its name, and where in the source it is.
func writeFrame(out *bytes.Buffer, f *pclntab.Frame, off uint64, before, after string) {
	name := f.Func
	if i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); i >= 0 && j > i { // type arguments, as the runtime writes them
		name = name[:i] + "[...]" + name[j+1:]
	}
	fmt.Fprintf(out, "%s%s%s\n\t%s:%d", before, name, after, f.File, f.Line)
	if !f.Inlined && off > 0 {
		fmt.Fprintf(out, " +%#x", off)
	}
	out.WriteByte('\n')
}

// hidden reports whether a function is one of the runtime's own, which its tracebacks leave out: those that are not exported.
func hidden(name string) bool {
	rest, ok := strings.CutPrefix(name, "runtime.")
	return ok && (rest == "" || rest[0] < 'A' || rest[0] > 'Z') && name != "runtime.main" && name != "runtime.panicmem" && name != "runtime.sigpanic"
}
