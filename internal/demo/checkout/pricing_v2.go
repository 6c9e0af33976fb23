//go:build checkout_v2

package checkout

import "regexp"

// version is what the service says of itself.
const version = "v2"

// rules are discounts in percent by a pattern of an article's number.
var rules = []struct {
	pattern string
	percent int
}{
	{`^book-[0-9]{1,9}$`, 5}, {`^tool-[0-9]{1,9}$`, 10}, {`^food-[0-9]{1,9}$`, 0}, {`^toy-[0-9]{1,9}$`, 15}, {`^lamp-[0-9]{1,9}$`, 20}, {`^rope-[0-9]{1,9}$`, 3},
}

// discount returns the discount of an article in percent. This is the mistake that the demo ships on purpose: the patterns
// never change, and yet each call compiles them again.
func discount(sku string) int {
	for _, r := range rules {
		if regexp.MustCompile(r.pattern).MatchString(sku) {
			return r.percent
		}
	}
	return 0
}
