// Package functions tells a collector which functions are in the binaries of a sidecar's machine, so that it can answer whether a vulnerable one is in a binary that it does not have.
//
// A Sender asks the collector which of the builds that run here it knows nothing of, and sends the lists of their functions, one at a time: each is made of the binary once and kept on
// disk. It asks again every hour, so that what a collector lost comes again, and after a pause with jitter, so that the sidecars of a fleet do not come at once and most lists are sent by
// one of them. What fails is tried again after a pause that doubles. Profiles go other ways and never wait for it.
//
// Names of functions are what profiles have, too, and privacy settings let them through; processes that the settings exclude from being looked at are not told of here.
//
// SetBuilds and GiveUp may be called concurrently with Run. The package imports symbols/binaries and symbols/pclntab.
package functions
