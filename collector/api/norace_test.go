//go:build !race

package api

// fleetSize is how many processes TestFleetIsListed lists.
const fleetSize = 100_000
