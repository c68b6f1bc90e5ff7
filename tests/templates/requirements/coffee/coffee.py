import star_anise


def brew(event, context):
    return star_anise.NAME
