"""`invoke bench.supervisor`: percore and PM2 side by side, row by row of one table."""
