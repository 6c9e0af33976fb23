package receive

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
)

// instanceLabel is set by the collector, never by the sender.
const instanceLabel = "service_instance_id"

// labels checks the labels of a process and returns them sorted, with service_instance_id set to instance where there is one.
// Labels with an empty value are left out: in selectors they are the same as absent ones.
func (h *Handler) labels(in map[string]string, instance string) (labels.Labels, error) {
	l := h.cfg.Limits
	tooMuch := func(limit string, most, got int, what string) error {
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: what, Limit: limit, Max: int64(most), Got: int64(got)}
	}
	if n := len(in) + 1; n > l.Labels {
		return labels.EmptyLabels(), tooMuch("max_labels", l.Labels, n, "the process has too many labels")
	}
	b := labels.NewScratchBuilder(len(in) + 1)
	for name, value := range in {
		switch {
		case len(name) > l.LabelNameBytes:
			return labels.EmptyLabels(), tooMuch("max_label_name_bytes", l.LabelNameBytes, len(name), "label name "+clip(name, 64)+"… is too long")
		case !validLabelName(name):
			return labels.EmptyLabels(), reply.Errorf(http.StatusUnprocessableEntity, "label name %q: want [a-zA-Z_][a-zA-Z0-9_]*, not starting with __", name)
		case len(value) > l.LabelValueBytes:
			return labels.EmptyLabels(), tooMuch("max_label_value_bytes", l.LabelValueBytes, len(value), "the value of label "+name+" is too long")
		case !utf8.ValidString(value):
			return labels.EmptyLabels(), reply.Errorf(http.StatusUnprocessableEntity, "the value of label %s is not UTF-8", name)
		case name == instanceLabel || value == "":
			continue
		}
		b.Add(name, value)
	}
	if in["service_name"] == "" {
		return labels.EmptyLabels(), &reply.Error{Status: http.StatusUnprocessableEntity, Message: "the process has no service_name", Hint: "set Config.Service, SONDE_SERVICE, or ?service="}
	}
	if instance != "" {
		b.Add(instanceLabel, instance)
	}
	b.Sort()
	return b.Labels(), nil
}

func validLabelName(s string) bool {
	if s == "" || strings.HasPrefix(s, "__") {
		return false
	}
	for i, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}
