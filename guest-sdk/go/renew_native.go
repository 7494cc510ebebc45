//go:build !wasip1

package exuvia

func renew() {
	for _, do := range renewals {
		do()
	}
}
