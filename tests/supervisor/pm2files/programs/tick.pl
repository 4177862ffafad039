$| = 1;
while (1) { print "pl\n"; sleep 1; }
