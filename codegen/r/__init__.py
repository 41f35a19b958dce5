"""R: the package `generated/r`, base R alone, in double precision.

program.py   what of a program R does not need, and the order in which its arrays run
lines.py     the statements about arguments, which every other target prints as Python
printer.py   programs to R
layer.py     a layer's initial weights, and its constructor as users of the R package keras3 know it
module.py    one file: documentation, function, the helpers that it uses
manual.py    the same documentation as an .Rd page
package.py   all files of the package
"""
