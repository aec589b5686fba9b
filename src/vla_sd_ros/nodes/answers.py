# SPDX-License-Identifier: Apache-2.0
"""Services that answer later, while the node goes on.

Not by a coroutine as the callback: the executor in C++ of rclpy 7.1.6 (Jazzy) takes it for the answer, and fails, which ends
the node; and rclpy's other executors run nothing else of the callback group until the coroutine has ended.
"""

from rclpy.service import Service
from rclpy.task import Future


def answering_later(service: Service) -> Service:
    """The service, whose callback may return a Future of the response; to be called before an executor sees the service.

    The response is sent by the thread that sets the future's result, for which the future must have no executor.
    """
    send = service.send_response

    def send_when_done(response, header) -> None:
        if isinstance(response, Future):
            response.add_done_callback(lambda done: send(done.result(), header))
        else:
            send(response, header)

    service.send_response = send_when_done  # type: ignore[method-assign]  # rclpy has no other way in
    return service
