package backup

import (
	"strings"
	"testing"
)

// FuzzManifest reads what a restore goes by: no file that it names lies outside the backup.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"v":1,"created":5,"catalog":"catalog-x.db","files":[{"name":"catalog-x.db","size":3,"sha256":"00"},{"name":"blobs/segments/06GZ","size":9}]}`))
	f.Add([]byte(`{"v":1,"catalog":"../catalog-x.db","files":[{"name":"../catalog-x.db"},{"name":"blobs/../../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if strings.Contains(file.Name, "..") && strings.Contains(file.Name, "/..") || strings.HasPrefix(file.Name, "/") || file.Size < 0 {
				t.Errorf("file %+v is accepted", file)
			}
		}
	})
}
