import time

while True:
    print("py")
    time.sleep(1)
