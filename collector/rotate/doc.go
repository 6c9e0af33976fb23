// Package rotate decides which replicas of a service are profiled now, where not all of them need to be.
//
// A service of 400 pods does not need 400 profilers to know where its CPU goes. A Rule says how many replicas are profiled at a time. The replicas fall into k groups by
// the hash of their instance id, k being the number of live ones divided by that number, rounded up. Time falls into slots, and in slot s the group s mod k is profiled, each of its profiles
// counting k times:
//
//	active(instance, t) = (t / slot) mod k == fnv1a64(instance) mod k
//
// Nothing is coordinated: an agent decides for itself with what the collector told it once, a sidecar and a collector decide the same of the processes that they profile, and
// who starts in the middle knows its turn. The invariant: at any moment the expected weight of an instance is 1, whatever k is and whenever it changes, so that totals are
// right in every merge; in a rotation of k slots with one k each instance is profiled in exactly one.
//
// All but Fleet are pure functions. Fleet counts the live replicas now and then and holds k still while the count wavers; it is safe for concurrent use.
//
// The package imports nothing of ours.
package rotate
