package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestDocumentedRules: what docs/rules.md shows is taken.
func TestDocumentedRules(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, block := range strings.Split(string(b), "```") {
		text, ok := strings.CutPrefix(block, "yaml\n")
		if i%2 == 0 || !ok {
			continue
		}
		var doc struct {
			Rules   *Settings `yaml:"rules"`
			Metrics yaml.Node `yaml:"metrics"` // is the database's
		}
		dec := yaml.NewDecoder(strings.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(&doc); err != nil {
			t.Errorf("block %d: %v", i, err)
			continue
		}
		if doc.Rules == nil {
			continue
		}
		n++
		if err := doc.Rules.Validate(); err != nil {
			t.Errorf("block %d: %v", i, err)
		}
		if len(doc.Rules.ProfileSeries) != 5 || len(doc.Rules.Groups[0].Rules) != 5 {
			t.Errorf("block %d: %d profile series, %d rules", i, len(doc.Rules.ProfileSeries), len(doc.Rules.Groups[0].Rules))
		}
	}
	if n != 1 {
		t.Errorf("docs/rules.md shows %d configurations with rules", n)
	}
}
