package exuvia

// Main is what a module's main function calls. In Wasm it is never called: a module is a library.
func Main() {}
