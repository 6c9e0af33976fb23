// Package audit answers what is wrong with the builds that a fleet runs: known vulnerabilities, by the versions of their modules, with whether the vulnerable function is in the
// binary at all and whether profiles saw it run, where and when; and Go versions that are out of support.
//
// Not seen does not mean not run: a CPU profile of 100 samples a second shows what takes time, a heap profile what allocates. Seen is certain. The answer says which types of profile
// were looked at.
//
// An Auditor may be used concurrently; it makes one report at a time and keeps the last ones for half a minute. The package reads the catalogue, the profile store and binaries through
// small interfaces, and writes nothing.
package audit
