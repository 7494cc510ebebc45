package exuvia

// renewals are functions that are called at the start of each process, and in new code before its state is loaded.
var renewals []func()

// Renew adds a function that is called at the start of each process, and in new code before the state is loaded. It is for
// what a package has found out or drawn when it was initialized, since that is done once for all processes: with no
// arguments, environment and folders, with clocks that stand, and with random numbers that are always the same.
func Renew(do func()) { renewals = append(renewals, do) }
