// Package procself reads what the operating system knows about this process: its memory and its open files. What a system does not tell is not a number (NaN).
//
// It imports the standard library only and holds nothing open between two readings.
package procself
