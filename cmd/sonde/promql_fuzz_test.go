package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzQueryAnswer has every format print whatever a server, which may be somebody else's (query_url), answers.
func FuzzQueryAnswer(f *testing.F) {
	for _, s := range []string{vectorJSON, matrix(), `{"data":{"resultType":"scalar","result":[1795262400,"1234"]}}`, `{"data":{"resultType":"string","result":[1795262400,"a\u001bb"]}}`,
		`{"data":{"resultType":"vector","result":[{"metric":{},"value":[1e300,"-Inf"]}]}}`,
		`{"data":{"resultType":"matrix","result":[{"metric":{"at":"forced","service_name":"\u001b"},"values":[[1795260000,"1e300"]]},{"metric":{"at":"live"},"values":[[1795260000,"1"],[1795260030,"2"]]}]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var answer promAnswer
		if json.Unmarshal(data, &answer) != nil {
			return
		}
		series, err := answer.Data.series()
		if err != nil || len(series) == 0 {
			return
		}
		var out bytes.Buffer
		a := newApp(nil, &out, &out)
		if err := a.writePromTable("x", series, "now", answer.Data.ResultType == "matrix", 3); err != nil {
			t.Fatal(err)
		}
		params := url.Values{"start": {"1795258800"}, "end": {"1795262400"}, "step": {"30"}}
		if err := a.plotProm(series, params, 3); err != nil && err != errHistograms {
			t.Fatal(err)
		}
		q := &traceQuery{a: a, r: timeRange{From: 1795258800_000, To: 1795262400_000}}
		for i := range gcPanels {
			if err := q.plotPanel(&gcPanels[i], series, 30*time.Second, 3); err != nil && err != errHistograms {
				t.Fatal(err)
			}
		}
		if bytes.ContainsRune(out.Bytes(), 0x1b) || !utf8.Valid(out.Bytes()) {
			t.Errorf("printed %q", out.Bytes())
		}
	})
}
