"""What everybody may import and nobody argues about: time, chance, errors, statistics cells, log set-up."""
