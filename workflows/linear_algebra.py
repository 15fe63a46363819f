"""Small matrices, handled by one thread."""

from threadpoolctl import ThreadpoolController

#: For functions with small matrices: threads would wait for one another, many times as long on a
#: busy machine, and the last digits would depend on their number.
in_one_thread = ThreadpoolController().wrap(limits=1, user_api="blas")
