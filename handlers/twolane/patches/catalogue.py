"""The parts of other libraries that are replaced, or used by a private name: where, and why.

Nothing at run time reads this. A test looks each place up in the installed versions and compares
its shape with the one that was tested; another one fails for a private name that is not listed.
The tested versions are ``twolane.patches.TESTED``.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One patch, or one use of private names.

    ``where``: ``module:attribute``, one for each thing that has to keep its shape; after a blank,
    what has to be in a function; ``{a,b}`` for several of one beginning. ``upstream``: an issue or
    a page, where there is one. ``user``: the module of ours that does it. ``older``: what comes of
    it with the supported versions that lack something of it; docs/compatibility.md shows these.
    """

    name: str
    user: str
    why: str
    where: tuple[str, ...]
    upstream: str = ""
    older: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """``where``, each place by itself."""
        split = (each.rstrip("}").partition("{") for each in self.where)
        return tuple(start + name for start, _, names in split for name in names.split(","))


ENTRIES = (
    Entry(
        "kombu's sqs transport",
        "twolane.patches.publishing",
        "kombu's own imports boto3, 120 ms of a cold start; ours is opened by the same name",
        ("kombu.transport:{TRANSPORT_ALIASES,_transport_cache}",),
    ),
    Entry(
        "groups in batches",
        "twolane.patches.publishing",
        "Celery publishes a group's tasks one by one, and has no setting that makes them a batch",
        (
            "celery.canvas:group._apply_tasks",
            "celery.utils.functional:regen",
            "kombu.messaging:Producer.batch",
        ),
        older="kombu before 5.7 has no batches; groups and beat's ticks leave in tens all the same",
    ),
    Entry(
        "lazy result backends",
        "twolane.patches.publishing",
        "each publish touches app.backend, whose making imports redis or boto3",
        ("celery:Celery._get_backend", "celery.backends.base:DisabledBackend"),
    ),
    Entry(
        "errors of an application without results",
        "twolane.patches.publishing",
        "stock raises an AttributeError that names neither the application nor a setting",
        (
            "celery.backends.base:DisabledBackend.{get_task_meta_for,wait_for,get_many,_is_disabled}",
        ),
    ),
    Entry(
        "connections of the database result backend",
        "twolane.patches.clients",
        "outside of a prefork pool's processes SQLAlchemy connects for each result",
        (
            "celery.backends.database.session:SessionManager.get_engine",
            "celery.backends.database.session:SessionManager.__init__ self.forked",
            "celery.backends.database.session:SessionManager.__init__ self._engines",
        ),
    ),
    Entry(
        "the process's default application",
        "twolane.publish.application",
        "without one, Celery makes an application of variables only for every other thread",
        ("celery._state:{default_app,get_current_app}", "celery:Celery.set_default"),
    ),
    Entry(
        "task events over Redis",
        "twolane.patches.publishing",
        "SQS has no broadcast; monitors look the classes up here",
        (
            "celery.app.events:Events.{dispatcher_cls,receiver_cls}",
            "celery.events.receiver:EventReceiver.__init__",
            "celery.events.dispatcher:EventDispatcher.{publish,_publish}",
        ),
    ),
    Entry(
        "result backends of our own",
        "twolane.patches.publishing",
        "redis://, sentinel:// and dynamodb:// open backends that end a lease with the result",
        (
            "celery.app.backends:BACKEND_ALIASES",
            "celery.backends.redis:SentinelBackend._get_sentinel_instance",
            "celery.backends.redis:RedisBackend._create_client",
        ),
    ),
    Entry(
        "app.control through the state store",
        "twolane.patches.publishing",
        "an application has copied the class's control_cls before twolane is imported",
        ("celery:Celery.{control,control_cls}", "celery.utils.imports:instantiate"),
    ),
    Entry(
        "times beside a result",
        "twolane.patches.clients",
        "Celery stores when a task was done, and neither when it was published nor when it began",
        ("celery.backends.base:Backend._get_result_meta",),
    ),
    Entry(
        "whose error it is",
        "twolane.patches.clients",
        "a store that is down and a hook that fails raise the same classes; only the place differs",
        (
            "celery.backends.base:Backend.{store_result,mark_as_failure,on_chord_part_return}",
            "celery.backends.base:Backend.{apply_chord,set_chord_size,_fail_chain,encode_result}",
            "celery.backends.base:KeyValueStoreBackend.{get,mget}",
        ),
        older=(
            "Celery before 5.7 fails the rest of a chain task by task, without the body of a chord "
            "in it, and without what follows a chord that could not start"
        ),
    ),
    Entry(
        "a cheaper task context",
        "twolane.patches.tracing",
        "Celery works a message's own headers out anew for each task: a tenth of a no-op task",
        ("celery.app.trace:{Context,saferepr}", "celery.app.task:Context._get_custom_headers"),
    ),
    Entry(
        "the fence of a lease on a task's request",
        "twolane.patches.tracing",
        "store_result has no other argument that Celery fills in with each state of a task",
        (
            "celery.app.task:Context.__init__",
            "celery.app.task:Task.update_state",
            "celery.worker.request:Request.{__init__,request_dict,_context}",
        ),
    ),
    Entry(
        "Celery's tracer with an await",
        "twolane.patches.coroutines",
        "Celery calls a task's body and takes the coroutine of an async def task for its result",
        (
            "celery.app.trace:build_tracer",
            "celery.worker.consumer.consumer:build_tracer",
            "celery.app.task:Task.{apply,run,__call__}",
        ),
        "https://github.com/celery/celery/issues/3884",
    ),
    Entry(
        "stacks of each coroutine task",
        "twolane.patches.coroutines",
        "current_task and task.request are kept for each thread; coroutines share one",
        (
            "celery._state:_task_stack",
            "celery.app.task:Task.request_stack",
            "celery.utils.threads:{_LocalStack,_FastLocalStack}",
            "celery.utils.threads:_LocalStack.{push,pop,stack,top,__ident_func__}",
        ),
    ),
    Entry(
        "Celery's wrappers around a coroutine",
        "twolane.patches.coroutines",
        "they look at what calling the body raises or returns, and a coroutine does that later",
        (
            "celery.app.autoretry:add_autoretry_behaviour task._orig_run",
            "celery.app.base:pydantic_wrapper",
        ),
    ),
    Entry(
        "coroutine tasks that Celery calls in place",
        "twolane.patches.coroutines",
        "errbacks that take three arguments are called as functions, and nobody awaits them",
        ("celery.backends.base:Backend._call_task_errbacks", "celery.canvas:Signature.__call__"),
    ),
    Entry(
        "the run of a record as its message's channel",
        "twolane.worker.records",
        "Celery gives us requests and messages, and kombu acknowledges a message on its channel",
        ("celery.worker.request:Request.message", "kombu.message:Message.{__init__,ack,reject}"),
    ),
    Entry(
        "cheaper tracebacks",
        "twolane.patches.tracing",
        "billiard copies every frame for another process, ten times what the task itself takes",
        (
            "billiard.einfo:_Frame.Code",
            "billiard.einfo:traceback",
            "billiard.einfo:ExceptionInfo.__init__",
        ),
    ),
    Entry(
        "background tasks in the inline lane",
        "twolane.patches.serving",
        "Starlette awaits them inside of the ASGI call and has no hook around it",
        (
            "starlette.background:BackgroundTask.__call__",
            "starlette.background:BackgroundTasks.__call__",
        ),
        "https://github.com/Kludex/starlette/blob/main/starlette/background.py",
    ),
    Entry(
        "the moment at which a response has left",
        "twolane.patches.serving",
        "the handler's return is too early, and the runtime has no hook after its post",
        (
            "awslambdaric.lambda_runtime_client:BaseLambdaRuntimeClient.{post_invocation_result}",
            "awslambdaric.lambda_runtime_client:BaseLambdaRuntimeClient.post_invocation_error",
        ),
        "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-response",
        older="awslambdaric before 4.0 has one class of clients, whose methods are taken",
    ),
    Entry(
        "redis-py's limits for each call",
        "twolane.patches.clients",
        "a connection outlives many invocations, and each has another time left",
        (
            "redis.connection:AbstractConnection.send_packed_command",
            "redis.connection:Connection().{_sock,_socket_timeout,_socket_connect_timeout}",
            "redis.connection:ConnectionPool().connection_class",
        ),
        older="redis-py before 7.1 keeps its limits in public attributes; each call has its limit",
    ),
    Entry(
        "botocore's limit for each request",
        "twolane.patches.clients",
        "botocore has none for a single request",
        (
            "botocore.client:BaseClient.__init__ self._endpoint",
            "botocore.endpoint:Endpoint.__init__ self.http_session",
            "botocore.httpsession:Timeout",
            "botocore.httpsession:URLLib3Session.{send,_get_connection_manager}",
            "botocore.httpsession:URLLib3Session()._proxy_config",
        ),
    ),
    Entry(
        "kombu's SQS channel with those limits",
        "twolane.patches.clients",
        "what the light publisher hands over would wait a minute for each attempt of boto3",
        (
            "kombu.transport.SQS:Channel.{new_sqs_client,generate_sts_session_token}",
            "kombu.transport.SQS:Transport.Channel",
        ),
    ),
    Entry(
        "what a snapshot must not hold",
        "twolane.patches.snapshot",
        "Celery, kombu and boto3 know forks but no snapshots: pools, ids and credentials go",
        (
            "kombu.pools:reset",
            "kombu.common:_node_id",
            "celery._state:_get_active_apps",
            "celery:Celery.{_after_fork,_backend,oid}",
            "celery:Celery().{_local,_backend_cache}",
            "celery.app.amqp:AMQP._event_dispatcher",
            "celery.backends.mongodb:MongoBackend._connection",
            "boto3.session:Session()._session",
            "botocore.session:Session()._credentials",
            "botocore.credentials:ContainerProvider.__init__ self._fetcher",
            "botocore.utils:ContainerMetadataFetcher.__init__ self._session",
        ),
    ),
    Entry(
        "a channel that hands over",
        "twolane.publish.transport",
        "kombu's virtual channels publish by _put, and leave boto3's clients open",
        (
            "kombu.transport.virtual:Channel.{_put,_get,_size,_purge,_delete}",
            "kombu.transport.SQS:Channel.{_put,_predefined_queue_clients}",
        ),
    ),
    Entry(
        "Celery's consumer without a broker",
        "twolane.worker.consumer",
        "create_task_handler is the code that a celery worker runs for each message",
        (
            "celery.worker.consumer:Consumer.{create_task_handler,Blueprint,__init__}",
            "celery.worker.consumer:Consumer.{on_unknown_message,on_unknown_task,on_invalid_task}",
            "celery.worker.consumer:Consumer.on_decode_error",
            "celery.app.task:Task._backend",
            "celery.app.trace:build_tracer",
        ),
    ),
    Entry(
        "how a run ended in Celery's tracer",
        "twolane.worker.pool",
        "the tracer says by its local variables only whether the body has returned",
        (
            "celery.app.trace:build_tracer {trace_task,on_error}",
            "celery.worker.request:Request.{on_failure,on_success,on_timeout,on_accepted}",
            "celery.worker.request:Request.{execute_using_pool,_context,_payload}",
        ),
    ),
    Entry(
        "whose worker the process is",
        "twolane.worker.handler",
        "two flags of the process that Celery's own pools set as they start",
        (
            "celery._state:{_set_task_join_will_block,task_join_will_block}",
            "celery.app.trace:{_localized,setup_worker_optimizations}",
        ),
    ),
    Entry(
        "kombu's decoders",
        "twolane.worker.message",
        "kombu makes a JSON decoder for each message; ours is made once, if its own would be asked",
        (
            "kombu.message:Message._decode",
            "kombu.serialization:registry._decoders",
            "kombu.utils.json:{loads,object_hook}",
        ),
    ),
    Entry(
        "Celery's Redis backend",
        "twolane.worker.redis_backend",
        "one script stores a result and ends its lease; a claim on a chord has its task's name",
        (
            "celery.backends.redis:RedisBackend.{_create_client,_set_with_state,_store_result}",
            "celery.backends.redis:RedisBackend.{_MAX_STR_VALUE_SIZE,ensure,on_chord_part_return}",
            "celery.backends.redis:RedisBackend.{_chord_part_return_script,_chord_cleanup_script}",
            "celery.backends.redis:RedisBackend._chord_claim_extend_script",
            "celery.backends.redis:{CHORD_PART_RETURN_LUA,CHORD_CLEANUP_LUA}",
            "celery.backends.redis:CHORD_CLAIM_EXTEND_LUA",
            "celery.backends.base:Backend.{chord_error_from_stack,mark_as_done,mark_as_retry}",
            "celery._state:get_current_worker_task",
        ),
        older=(
            "Celery before 5.7 does not claim a chord that is complete: two header tasks may "
            "publish its body, which runs once, by its lease; a header task that comes again after "
            "its chord has failed calls the errbacks again; `result_failure_expires` is not there"
        ),
    ),
    Entry(
        "Celery's DynamoDB backend",
        "twolane.worker.dynamodb_backend",
        "results and chords on conditions, which Celery writes without",
        (
            "celery.backends.dynamodb:DynamoDBBackend.__init__ self._client",
            "celery.backends.dynamodb:DynamoDBBackend.{_get_or_create_table,_get_key_for}",
            "celery.backends.dynamodb:DynamoDBBackend.{_prepare_get_request,_prepare_put_request}",
            "celery.backends.dynamodb:DynamoDBBackend.{_item_to_dict,_set_with_state}",
            "celery.backends.dynamodb:DynamoDBBackend.{_store_result,_apply_chord_incr,_key_field}",
            "celery.backends.dynamodb:DynamoDBBackend.{_value_field,_available_fields,_save_group}",
            "celery.backends.dynamodb:DynamoDBBackend.{_restore_group,_delete_group}",
            "celery.app.amqp:AMQP._retry_publish",
            "celery.result:GroupResult._failed_join_report",
        ),
        older=(
            "Celery before 5.7 does not wait between attempts to publish a chord's body, and has "
            "no `result_chord_expires`"
        ),
    ),
    Entry(
        "Mangum's parts",
        "twolane.api.handler",
        "ApiHandler is a Mangum whose event loop and lifespan last as long as the environment",
        (
            "mangum:Mangum.{__init__,_setup_event_loop}",
            "mangum.protocols.lifespan:LifespanCycle.{__init__,startup,shutdown}",
            "mangum.handlers:HTTPGateway.scope",
            "mangum.handlers:APIGateway.scope",
            "mangum.handlers:ALB.scope",
            "mangum.handlers:LambdaAtEdge.scope",
        ),
        "https://github.com/Kludex/mangum/issues/342",
        older="Mangum before 0.21 has no loop of its own to be replaced",
    ),
    Entry(
        "threads that end before the interpreter waits for them",
        "twolane.api.engine",
        "atexit comes after that wait; concurrent.futures uses the same hook for the same reason",
        ("threading:_register_atexit",),
    ),
)
