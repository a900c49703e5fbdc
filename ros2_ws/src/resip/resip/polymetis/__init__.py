"""Polymetis over its own gRPC protocol: client, uploaded controller, and a simulated server.

Nothing here imports Polymetis (Python 3.8, conda only), rclpy or a simulator. The pieces, outermost first:

``session``     What the bridge node drives. ``ArmSession`` and ``GripperSession`` follow the server's rules, never
                raise, and answer every call with a status that says why.

                    session = ArmSession(ArmClient("127.0.0.1", 50051), SessionSettings(stale_after_s=1.0))
                    status = session.poll()          # -> ArmStatus(mode, reason, state); 100 Hz
                    status = session.arm()           # uploads the impedance controller; holds where the arm is
                    status = session.command(q_rad)  # (7,), 20 to 100 Hz; silence is a hold; the answer comes later
                    status = session.disarm()        # the server's default controller holds
                    gripper = GripperSession(GripperClient("127.0.0.1", 50052), settings)
                    gripper.command(close=True); status = gripper.poll()   # -> GripperStatus

                ``mode`` is ``DISCONNECTED | IDLE | ARMED | FAULTED``. A fault is latched until ``arm`` succeeds;
                being disconnected or stale while idle heals by itself. ``state.timestamp_ns`` is the robot's stamp.

``client``      ``ArmClient``, ``GripperClient``: one method a remote call, a deadline on every one; errors are
                ``PolymetisError`` naming address, method, status code and the server's text.
``messages``    The typed values those calls take and give (``RobotState`` and so on), numpy inside.
``wire``        The protobuf classes, made at run time in a private pool, and the method paths.

``controllers`` The TorchScript modules that run inside the server.
``archives``    ``ImpedanceSettings``, and the bytes to upload: ``controller_archive(settings)``, ``UpdateArchive``.
``hardware``    The Franka's limits as the real robot client enforces them.

``server``      ``ControllerServer``: the real server's state machine, status codes and texts, over any clock.
``gripper``     ``GripperServer`` (the cache) and ``HandClient`` (what the hand does with commands).
``endpoint``    The gRPC servicers around both: ``Endpoint(server, port=0)``, ``.start()``, ``.port``, ``.stop()``.
``simulated``   ``SimulatedRobot``: a simulated arm and hand behind both servers. What ``sim_cell`` runs:

                    robot = SimulatedRobot(cell, port=50051, gripper_port=50052)  # 0 picks a free port
                    robot.start()
                    while running: robot.tick()      # one control update, one physics step
                    robot.relocated()                # after the cell was reset: the arm jumped
                    robot.inject_fault("..."); robot.stall(0.5); robot.protocol_violations
                    robot.stop()
"""
