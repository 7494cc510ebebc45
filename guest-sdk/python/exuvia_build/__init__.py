"""The build tool: from a script to a module, without a compiler."""
