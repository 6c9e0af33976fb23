package vulns

import (
	"fmt"
	"os"
	"path/filepath"
)

// Settings are the file settings `builds` has for vulnerabilities.
type Settings struct {
	// Database is a copy of the Go vulnerability database: a directory, or a zip file such as https://vuln.go.dev/vulndb.zip. It is read again when it changes. Empty: vulnerabilities are not looked for.
	Database string `yaml:"vulndb"`
	// Releases is a file that takes the place of the built-in table of Go releases, of its form. Empty: the built-in one.
	Releases string `yaml:"go_releases"`
}

// Validate reports what is wrong with the settings. A database may come later; the table of releases must be there.
func (s *Settings) Validate() error {
	if s.Releases != "" {
		if _, err := ReadReleases(s.Releases); err != nil {
			return err
		}
	}
	return nil
}

// Stamp returns a text that changes when the database at name does, or an error where there is none.
func Stamp(name string) (string, error) {
	st, err := os.Stat(name)
	if err == nil && st.IsDir() {
		if info, e := os.Stat(filepath.Join(name, filepath.FromSlash(databaseInfo))); e == nil {
			st = info
		}
	}
	if err != nil {
		return "", fmt.Errorf("look for vulnerability database: %w", err)
	}
	return fmt.Sprintf("%s %d %d", st.Name(), st.Size(), st.ModTime().UnixNano()), nil
}
