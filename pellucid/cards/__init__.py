"""The papers of a release, in the formats that others read, filled from its record."""
