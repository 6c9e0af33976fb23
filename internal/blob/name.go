package blob

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxName = 512 // bytes of a whole name
	maxPart = 200 // bytes between slashes; a file name may have 255, and the temporary one is longer
)

// ErrName says that a name cannot be a blob's.
var ErrName = errors.New("invalid blob name")

// CheckName returns an error that wraps ErrName unless name is 1 to 512 bytes of slash-separated parts, each 1 to 200 of
// [A-Za-z0-9._-] that do not start with a dot nor end as temporary files do. Such a name is safe as a path below a directory and as
// an object's key.
func CheckName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrName, len(name), maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return fmt.Errorf("%w %q: empty, or an empty part", ErrName, name)
		case len(part) > maxPart:
			return fmt.Errorf("%w %q: a part has %d bytes, at most %d", ErrName, name, len(part), maxPart)
		case part[0] == '.':
			return fmt.Errorf("%w %q: a part starts with a dot", ErrName, name)
		case strings.HasSuffix(part, tempSuffix):
			return fmt.Errorf("%w %q: ends with %s as temporary files do", ErrName, name, tempSuffix)
		}
		for _, c := range []byte(part) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
				return fmt.Errorf("%w %q: character %q", ErrName, name, c)
			}
		}
	}
	return nil
}
