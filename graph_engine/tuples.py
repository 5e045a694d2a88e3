"""`made(Ref, (key, output, item))`: a NamedTuple in half the time of `Ref(key, output, item)`.

For the few places where one is made for every step of a large run. All fields must be given, in order.
"""

made = tuple.__new__
