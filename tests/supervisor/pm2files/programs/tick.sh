while :; do echo sh; sleep 1; done
