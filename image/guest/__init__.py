"""The test guest: Debian with OpenZFS under an emulator, for tests that need a kernel of their own."""
