package series

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func TestWithTarget(t *testing.T) {
	for _, tt := range []struct{ process, want labels.Labels }{
		{labels.EmptyLabels(), labels.EmptyLabels()},
		{labels.FromStrings("service_name", "cart"), labels.FromStrings("service_name", "cart", "job", "cart")},
		{labels.FromStrings("service_name", "cart", "service_namespace", "shop", "service_instance_id", "i1"),
			labels.FromStrings("service_name", "cart", "service_namespace", "shop", "service_instance_id", "i1", "job", "shop/cart", "instance", "i1")},
		{labels.FromStrings("service_name", "cart", "job", "own", "service_instance_id", "i1"),
			labels.FromStrings("service_name", "cart", "job", "own", "service_instance_id", "i1", "instance", "i1")},
	} {
		if got := WithTarget(tt.process); !labels.Equal(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.process, got, tt.want)
		}
	}
}
