"""The fronts, one file each; `serving.front` holds their contract."""
