//go:build race

package api

// fleetSize is how many processes TestFleetIsListed lists: under the race detector each costs ten times as much.
const fleetSize = 10_000
