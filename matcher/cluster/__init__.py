"""Work on several machines: a Ray cluster answers clips and describes films.

This process, the driver, holds the store's lock, plans, stages and commits, just as it does alone. What takes
the time is done by workers: Ray actors, one a processor, that read the store or the films and write nothing.
A worker opens what it needs once and is then given one task after the other; the task of one that dies goes
to another. So neither the number of workers nor the death of any changes a result.

Every machine must have this package, and reach the store and the films by the names that the driver uses.

``crew``        the cluster, its workers, and tasks that are spread over them
``answering``   clips of a night
``slices``      an index that no single worker holds
``describing``  files of programs

Sources: docs.ray.io, "Actors" and "Fault tolerance" for what a call to a dead actor raises.
"""
