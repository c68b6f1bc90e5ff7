import vanilla_pod


def pour(event, context):
    return vanilla_pod.NAME
