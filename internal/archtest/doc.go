// Package archtest holds the tests that keep the shape of the project: which folder may import which, what only tests may use, that the agent
// requires nothing, and what no committed file may contain. The rules are the tables at the top of rules_test.go and tree_test.go.
//
// It has no code of its own and is imported by nobody.
package archtest
