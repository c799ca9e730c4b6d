"""The Celery application under test; its broker comes from the environment variable BROKER_URL."""
import os

from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue

app = Celery('tasks', broker=os.environ['BROKER_URL'], backend='rpc://')
app.conf.update(
    task_queues=[
        Queue('celery', Exchange('celery'), routing_key='celery'),
        Queue('careful', Exchange('careful'), routing_key='careful', queue_arguments={
            'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'celery-graveyard', 'x-max-priority': 10}),
    ],
    task_default_queue='celery',
    broker_connection_retry_on_startup=True,
    broker_transport_options={'confirm_publish': True, 'interval_start': 0, 'interval_step': 0.05, 'interval_max': 0.2},
    worker_prefetch_multiplier=4,
    task_track_started=True,
    result_expires=60,
)


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=3)
def succeeds_third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task
def fails():
    raise KeyError('no such thing')


@app.task(bind=True, acks_late=True, queue='careful')
def rejects(self):
    raise Reject('poison', requeue=False)


@app.task(acks_late=True, queue='careful')
def echo(text):
    return text
