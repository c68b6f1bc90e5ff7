import socket


def wait():
    near, far = socket.socketpair()
    near.recv(1)
    far.close()


wait()
