// Package vulns says which known vulnerabilities a build has, by the versions of its modules and by the functions in it, and whether the
// Go version that it was built with is still supported.
//
// The vulnerabilities come from a copy of the Go vulnerability database (https://go.dev/doc/security/vuln/database): a directory or a zip file as
// https://vuln.go.dev/vulndb.zip is, with index/modules.json and ID/*.json in the OSV format. Nothing is fetched: what a fleet runs is nobody
// else's business, and a collector may have no way out.
//
// A module that was replaced counts as what replaced it. A version that is not known ((devel), a replacement by a directory) is not
// guessed at: such modules are in Build.Unknown and have no findings. The standard library is the module stdlib with the Go version of the build; the
// module toolchain is matched for programs of the go command only, since what compiled a program does not run with it.
//
// Database files are outside input: their size is bounded, names in them are checked before files are opened by them, and no input makes
// the package panic. A Database may be used concurrently. The package imports the standard library, golang.org/x/mod and
// symbols/pclntab.
package vulns
