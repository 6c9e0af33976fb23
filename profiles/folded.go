package profiles

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// foldedName replaces what would break a line of folded text. The format knows no escapes, so a semicolon (which Go names hold only in
// instantiated struct types) becomes a colon, and line ends become spaces.
var foldedName = strings.NewReplacer(";", ":", "\n", " ", "\r", " ")

// WriteFolded writes s as Brendan Gregg's folded text, which flamegraph.pl, speedscope and others read: one line per stack of functions, root
// first, frames separated by semicolons, then a space and the value. Lines are in the order of their frames.
func WriteFolded(w io.Writer, s *Stacks) error {
	t := newTree(s, nil, FramesFunction)
	kept := make([]bool, len(t.parent))
	for i := range kept {
		kept[i] = true
	}
	nodes, groups := t.children(kept)
	bw := bufio.NewWriter(w)
	var stack []Span
	var frames []string
	stack = append(stack, groups[0])
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.Len() == 0 {
			stack = stack[:len(stack)-1]
			frames = frames[:max(len(frames)-1, 0)]
			continue
		}
		n := nodes[top.Lo]
		top.Lo++
		frames = append(frames, foldedName.Replace(t.table.names[n.name]))
		if v := t.self[0][n.tree]; v != 0 {
			for i, f := range frames {
				if i > 0 {
					bw.WriteByte(';')
				}
				bw.WriteString(f)
			}
			bw.WriteByte(' ')
			bw.Write(strconv.AppendInt(nil, v, 10))
			bw.WriteByte('\n')
		}
		stack = append(stack, groups[n.tree])
	}
	if v := t.self[0][0]; v != 0 {
		// Samples without a stack have no frame to be written under.
		bw.WriteString("(none) ")
		bw.Write(strconv.AppendInt(nil, v, 10))
		bw.WriteByte('\n')
	}
	return bw.Flush()
}
